// A policy plugin: the tier that an API key was sold as, and what a request costs by its path.
//
// The engine that this becomes part of is a small one, so bytes are read here by hand: it has no
// TextDecoder.

import { write } from 'tidegate:edge/log@0.1.0';

const TIERS = [['gk_', 'gold'], ['sk_', 'silver']];

const startsWith = (bytes, prefix) => String.fromCharCode(...bytes.subarray(0, prefix.length)) === prefix;

export const policy = {
  describe() {
    write('info', 'tiers by the prefixes of API keys');
    const header = name => ({ tag: 'header', val: name });
    return {
      name: 'tiers',
      version: '1.0.0',
      wants: [header('x-api-key'), header(':path')],
      gives: ['tier', 'cost'],
    };
  },

  // An absent fact is null. What is thrown becomes an error: the policy says what holds then.
  resolve([key, path]) {
    if (!path) throw 'a request without a path';
    const [, tier] = TIERS.find(([prefix]) => key && startsWith(key, prefix)) ?? [];
    return [tier, startsWith(path, '/export/') ? '10' : '1'];
  },
};

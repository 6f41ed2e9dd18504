// Tidegate in a Node HTTP server: what the guard lets through is greeted, all else gets its refusal.
//
//   node server.js PORT POLICY SERVICE
//
// POLICY is a file of JSON; SERVICE is where a Tidegate host service answers asks, such as
// 127.0.0.1:9090. Only a policy with global limits, or with revocation, asks.

import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { instantiate } from './guard/tidegate.component.js';

const [port, policy, service] = process.argv.slice(2);
const processName = randomUUID();
const draw = () => randomBytes(8).readBigUInt64LE();

// What the instances of one process share. This process has one, so a map does.
const shared = new Map();
const nameOf = key => Buffer.from(key).toString('hex');

// The requests that wait: by its ticket, whom to tell of each.
const held = new Map();

const module = path => new WebAssembly.Module(readFileSync(new URL(`guard/${path}`, import.meta.url)));

const { guard } = instantiate(module, {
  'tidegate:edge/clock': { now: () => process.hrtime.bigint() },
  'tidegate:edge/log': { write: (level, message) => console.error(`${level}: ${message}`) },
  'tidegate:edge/shared': {
    get: key => shared.get(nameOf(key)),
    put(key, value, version) {
      const [, current] = shared.get(nameOf(key)) ?? [undefined, 0];
      if (version !== undefined && version !== current) return false;
      shared.set(nameOf(key), [value, (current % 0xffff_ffff) + 1]);
      return true;
    },
  },
  'tidegate:edge/store': {
    send(question) {
      ask(question).then(answer => settle(guard.onReply(question.id, answer)));
      return true;
    },
  },
});

// Puts a question to the host service. Without its mark a response is somebody else's.
async function ask({ body, waits }) {
  const waitsMs = Number(waits / 1_000_000n) + 1;
  const headers = { 'x-tidegate-proxy': processName, 'x-tidegate-waits-ms': `${waitsMs}` };
  if (body) headers['content-type'] = 'application/x-tidegate';
  const call = { method: body ? 'POST' : 'GET', headers, body, signal: AbortSignal.timeout(waitsMs) };
  try {
    const response = await fetch(`http://${service}${body ? '/v1/ask' : '/healthz'}`, call);
    const answer = new Uint8Array(await response.arrayBuffer());
    const awayMs = response.headers.get('x-tidegate-away-ms');
    if (response.status === 200 && response.headers.has('x-tidegate')) return { tag: 'ok', val: answer };
    if (awayMs) return { tag: 'err', val: { tag: 'store-away', val: BigInt(awayMs) * 1_000_000n } };
  } catch (problem) {
    console.error(`debug: ${problem}`);
  }
  return { tag: 'err', val: { tag: 'unreachable' } };
}

function settle(decisions) {
  for (const { ticket, verdict } of decisions) {
    held.get(ticket)?.(verdict);
    held.delete(ticket);
  }
}

// What the policy wants to know of a request, as bytes.
function fact({ tag, val: name }, request) {
  if (tag === 'client-address') return Buffer.from(request.socket.remoteAddress);
  if (tag !== 'header' && tag !== 'sole-header') return undefined;
  const { method, url, headers: { host } } = request;
  const pseudo = { ':method': [method], ':path': [url], ':authority': host && [host] };
  const values = pseudo[name] ?? request.headersDistinct[name] ?? [];
  const value = tag === 'sole-header' && values.length > 1 ? ',' : values[0];
  return value === undefined ? undefined : Buffer.from(value, 'latin1');
}

async function decide(request, response) {
  const step = guard.onRequest(terms.wants.map(want => fact(want, request)));
  if (step.tag === 'answer') return step.val;
  response.once('close', () => held.delete(step.val) && guard.onGone(step.val));
  return new Promise(tell => held.set(step.val, tell));
}

const setup = { seed: [draw(), draw()], process: draw(), number: 1, instances: 1 };
let terms;
try {
  terms = guard.configure(readFileSync(policy, 'utf8'), setup);
} catch ({ payload: problems }) {
  console.error(problems.join('\n'));
  process.exit(1);
}
setInterval(() => settle(guard.onTick()), Number(terms.tick) / 1e6);

// A process's first fetch takes longer than a request may be held.
await fetch(`http://${service}/healthz`).catch(() => {});

// A trap of the guard ends the process, as any error that nobody catches: whoever runs it starts another.
const server = createServer(async (request, response) => {
  const { tag, val } = await decide(request, response);
  for (const { name, value } of val?.fields ?? []) response.setHeader(name, value);
  response.statusCode = tag === 'refuse' ? val.status : 200;
  response.end(tag === 'refuse' ? val.body : 'hello\n');
});
server.listen(Number(port), '127.0.0.1', () => console.log('ready'));

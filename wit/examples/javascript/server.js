// Tidegate in a Node HTTP server: what the guard lets through is greeted, all else gets its refusal.
//
//   node server.js PORT POLICY SERVICE
//
// POLICY is a file of JSON; SERVICE is where a Tidegate host service answers asks, such as
// 127.0.0.1:9090. Only a policy with global limits, or with revocation, asks.

import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, request as call } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { instantiate } from './guard/tidegate.component.js';

const [port, policy, service] = process.argv.slice(2);
const processName = randomUUID();
const draw = () => randomBytes(8).readBigUInt64LE();

// What the instances of one process share. This process has one, so a map does.
const shared = new Map();
const nameOf = key => Buffer.from(key).toString('hex');

// The requests that wait: by its ticket, whom to tell of each. None does for longer than the longest
// deadline that a policy can have, which is 4 s.
const held = new Map();
const HELD_MS_MAX = 10_000;

// What the request that is just being decided calls itself.
let names = {};

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
      ask(question, names).then(answer => settle(guard.onReply(question.id, answer)));
      return true;
    },
  },
});

// Puts a question to the host service. Without its mark a response is somebody else's.
async function ask({ authority, body, waits }, names) {
  const waitsMs = Number((waits + 999_999n) / 1_000_000n);
  const headers = { ...names, host: authority };
  Object.assign(headers, { 'x-tidegate-proxy': processName, 'x-tidegate-waits-ms': waitsMs });
  if (body) headers['content-type'] = 'application/x-tidegate';
  const options = { method: body ? 'POST' : 'GET', headers, signal: AbortSignal.timeout(waitsMs) };
  try {
    const asked = call(`http://${service}${body ? '/v1/ask' : '/healthz'}`, options).end(body);
    const [response] = await once(asked, 'response');
    asked.on('error', () => {}); // what goes wrong from here on, the response tells
    const answer = await buffer(response);
    const { 'x-tidegate': mark, 'x-tidegate-away-ms': awayMs } = response.headers;
    if (mark && response.statusCode === 200) return { tag: 'ok', val: answer };
    if (mark && awayMs) return { tag: 'err', val: { tag: 'store-away', val: BigInt(awayMs) * 1_000_000n } };
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
  // Perhaps a whole URL, whose authority counts (RFC 9112, 3.2.2); what follows that is the path.
  const whole = /^[a-z][a-z0-9+.-]*:\/\/([^/?]*)\/?(.*)$/i.exec(url);
  const [authority, path] = whole ? [whole[1] || host, `/${whole[2]}`] : [host, url];
  const pseudo = { ':method': [method], ':path': [path], ':authority': authority && [authority] };
  const values = pseudo[name] ?? request.headersDistinct[name] ?? [];
  const value = tag === 'sole-header' && values.length > 1 ? ',' : values[0];
  return value === undefined ? undefined : Buffer.from(value, 'latin1');
}

// What goes along with a question: only what is plainly a name.
function namesOf({ headers }) {
  const isName = key => /^[!-~]{1,256}$/.test(headers[key] ?? '');
  return Object.fromEntries(['x-request-id', 'traceparent'].filter(isName).map(key => [key, headers[key]]));
}

// The verdict; none if the client is gone, or the guard does not tell.
async function decide(request, response) {
  names = namesOf(request);
  const { tag, val } = guard.onRequest(terms.wants.map(want => fact(want, request)));
  names = {};
  if (tag === 'answer') return val;
  let late;
  const verdict = await new Promise(tell => {
    held.set(val, tell);
    response.once('close', () => tell());
    request.resume(); // who hangs up is seen once the body is read, which nobody wants
    late = setTimeout(tell, HELD_MS_MAX);
  });
  clearTimeout(late);
  if (held.delete(val)) guard.onGone(val);
  return verdict;
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

// A trap of the guard ends the process, as any error that nobody catches: whoever runs it starts another.
const server = createServer(async (request, response) => {
  const verdict = await decide(request, response);
  if (!verdict) return response.writeHead(503).end();
  const { tag, val } = verdict;
  for (const { name, value } of val?.fields ?? []) response.setHeader(name, value);
  response.statusCode = tag === 'refuse' ? val.status : 200;
  response.end(tag === 'refuse' ? val.body : 'hello\n');
});
server.listen(Number(port), '127.0.0.1', () => console.log('ready'));

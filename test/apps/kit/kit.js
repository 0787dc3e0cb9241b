// What every test app shares: who it is, the faults it can be told to have,
// and the bodies that internal/load verifies. Deliberately no signal handling.
//
// Each app has its own copy in <app>/kit (a release is a copy of the app's
// directory); test/apps/kit is the master, install.sh refreshes the copies.
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

// A setting is an environment variable or, so that a broken version can also
// be made by changing the directory, a file of that name in the app's directory.
function setting(name, otherwise = '') {
  if (process.env[name]) return process.env[name];
  try {
    return fs.readFileSync(path.join(__dirname, '..', name), 'utf8').trim();
  } catch {
    return otherwise;
  }
}

const release = process.env.GAPLESS_RELEASE || setting('VERSION', 'v0');
const instance = process.env.GAPLESS_INSTANCE || String(process.pid);
const port = process.env.GAPLESS_SOCKET_FD ? { fd: Number(process.env.GAPLESS_SOCKET_FD) } : isNaN(process.env.PORT || 3000) ? process.env.PORT : Number(process.env.PORT || 3000); // or the path of a unix socket, or a descriptor
const broken = setting('BREAK');

// Every answer says who gave it.
const identity = { 'x-release': release, 'x-instance': instance };
function identify(res) {
  for (const name in identity) res.setHeader(name, identity[name]);
}

const bodies = {
  hello: () => `hello ${release}\n`,
  slow: (ms) => `slow ${ms} ${release}\n`,
  cart: () => `cart ${release}\n`,
};

// upload reads a request body and resolves to "<bytes> <sha256>".
function upload(stream) {
  return new Promise((resolve, reject) => {
    const hash = crypto.createHash('sha256');
    let bytes = 0;
    stream.on('data', (chunk) => { bytes += chunk.length; hash.update(chunk); });
    stream.on('end', () => resolve(`${bytes} ${hash.digest('hex')}\n`));
    stream.on('error', reject);
  });
}

// events writes a numbered event every 100 ms to a raw response until the
// client leaves, or until `count` events are out.
function events(res, count = Infinity) {
  res.writeHead(200, { ...identity, 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  let n = 0;
  const timer = setInterval(() => {
    res.write(`id: ${++n}\ndata: ${n} ${release}\n\n`);
    if (n >= count) { clearInterval(timer); res.end(); }
  }, 100);
  res.on('close', () => clearInterval(timer));
}

// sockets echoes WebSocket messages on /ws with the ws package.
function sockets(server) {
  const { WebSocketServer } = require('ws');
  const wss = new WebSocketServer({ server, path: '/ws' });
  wss.on('headers', (headers) => {
    for (const name in identity) headers.push(`${name}: ${identity[name]}`);
  });
  wss.on('connection', (ws) => {
    ws.on('error', () => {});
    ws.on('message', (data, binary) => ws.send(data, { binary }));
  });
}

// boot calls start(port) when the app may listen: after BOOT_MS, and in the
// way that BREAK names:
//   throw           throws while it starts
//   syntax          loads a file with a syntax error
//   never-listen    runs on and never listens
//   wrong-port      ignores PORT (listens on WRONG_PORT, by default a free one)
//   exit-after-5s   serves well and exits with code 7 after 5 s
//   leak            serves well and takes 10 MB more every 100 ms, up to LEAK_MB (512)
// and, per request (see delay and fault): slow, cold, hang, reset, 500, crash-on-request.
function boot(start) {
  if (broken === 'throw') throw new Error('cannot read the price list: DATABASE_URL is not set');
  if (broken === 'syntax') require('./broken.js');
  if (broken === 'never-listen') return void setInterval(() => {}, 1000);
  if (broken === 'exit-after-5s') setTimeout(() => process.exit(7), 5000);
  if (broken === 'leak') leak(Number(setting('LEAK_MB', '512')));
  const wanted = broken === 'wrong-port' ? Number(setting('WRONG_PORT', '0')) : port;
  const ms = Number(setting('BOOT_MS', '0'));
  if (ms > 0) setTimeout(start, ms, wanted);
  else start(wanted);
}

const kept = [];
function leak(megabytes) {
  const timer = setInterval(() => {
    kept.push(Buffer.alloc(10 << 20, 1));
    if (kept.length * 10 >= megabytes) clearInterval(timer);
  }, 100);
}

// delay is by how many milliseconds a request is answered later: BASE_MS, give
// or take a fifth, for a service that does some work, and what BREAK adds:
//   slow   SLOW_MS (500) more
//   cold   COLD_MS (200) more at first, and nothing any more after COLD_FOR (4000) ms of service
let served = 0; // since when
function delay() {
  served = served || Date.now();
  let ms = Number(setting('BASE_MS', '0')) * (0.8 + 0.4 * Math.random());
  if (broken === 'slow') ms += Number(setting('SLOW_MS', '500'));
  if (broken === 'cold') ms += Math.max(0, Number(setting('COLD_MS', '200')) * (1 - (Date.now() - served) / Number(setting('COLD_FOR', '4000'))));
  return ms;
}

// fault answers (or does not answer) a request as BREAK says and reports
// whether it did. BREAK_PATH limits 500 and crash-on-request to one path,
// BREAK_SHARE (0…1) to a share of the requests, BREAK_INSTANCE reset to
// instances with that in their name; /healthz stays good.
function fault(req, res) {
  identify(res);
  const at = req.url.split('?')[0];
  if (broken === 'hang') {
    const only = setting('BREAK_PATH');
    return !only || at === only;
  }
  if (broken === 'reset' && at !== '/healthz' && instance.includes(setting('BREAK_INSTANCE'))) {
    req.socket.destroy();
    return true;
  }
  const ms = at === '/healthz' && broken !== 'slow' ? 0 : delay();
  if (ms > 0 && !req.slowed) {
    req.slowed = true; // and then as if nothing was
    setTimeout(() => req.socket.server.emit('request', req, res), ms);
    return true;
  }
  if (broken !== '500' && broken !== 'crash-on-request') return false;
  const only = setting('BREAK_PATH');
  if (at === '/healthz' || (only && at !== only)) return false;
  if (Math.random() >= Number(setting('BREAK_SHARE', '1'))) return false;
  if (broken === 'crash-on-request') setImmediate(() => { throw new Error(`no handler for ${req.url}`); });
  else res.writeHead(500, { 'content-type': 'text/plain' }).end('internal error\n');
  return true;
}

module.exports = { release, instance, port, identity, identify, bodies, upload, events, sockets, boot, fault };

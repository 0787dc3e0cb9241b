'use strict';
const http = require('node:http');
const { WebSocketServer } = require('ws');
const kit = require('./kit/kit.js');

const text = (res, body) => res.writeHead(200, { 'content-type': 'text/plain' }).end(body);

const server = http.createServer((req, res) => {
  if (kit.fault(req, res)) return;
  const url = new URL(req.url, 'http://app');
  switch (`${req.method} ${url.pathname}`) {
    case 'GET /': return text(res, kit.bodies.hello());
    case 'GET /healthz': return text(res, 'ok\n');
    case 'GET /cart': return text(res, kit.bodies.cart());
    case 'GET /events': return kit.events(res, Number(url.searchParams.get('n') || Infinity));
    case 'GET /slow': {
      const ms = Number(url.searchParams.get('ms') || 1000);
      return setTimeout(() => text(res, kit.bodies.slow(ms)), ms);
    }
    case 'POST /upload': return kit.upload(req).then((sum) => text(res, sum), () => res.destroy());
  }
  res.writeHead(404).end('not found\n');
});

// A chat as people write it: a greeting, echoes, and a ping from the server
// every second.
const wss = new WebSocketServer({ server, path: '/ws' });
wss.on('headers', (headers) => {
  for (const name in kit.identity) headers.push(`${name}: ${kit.identity[name]}`);
});
wss.on('connection', (ws) => {
  const beat = setInterval(() => ws.ping(), 1000);
  ws.send(`hello ${kit.release} ${kit.instance}`);
  ws.on('message', (data, binary) => ws.send(data, { binary }));
  ws.on('error', () => {});
  ws.on('close', () => clearInterval(beat));
});

kit.boot((port) => server.listen(port, () => console.log(`ws ${kit.release} listens on ${server.address().port}`)));
module.exports = { get server() { return server; } };

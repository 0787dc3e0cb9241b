'use strict';
const http = require('node:http');
const kit = require('./kit/kit.js');
const websocket = require('./websocket.js');

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
server.on('upgrade', (req, socket, head) => {
  if (req.url !== '/ws') return socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
  websocket.echo(req, socket, head, kit.identity);
});

kit.boot((port) => server.listen(port, () => console.log(`http ${kit.release} listens on ${server.address().port}`)));
module.exports = { get server() { return server; } };

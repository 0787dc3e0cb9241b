// The demo's app: plain Node, no dependency, no signal handling.
'use strict';
const http = require('node:http');
const crypto = require('node:crypto');

const release = process.env.GAPLESS_RELEASE;
const who = { 'x-release': release, 'x-instance': process.env.GAPLESS_INSTANCE };
const text = (res, body) => res.writeHead(200, { ...who, 'content-type': 'text/plain' }).end(body);

function cart(res) { text(res, `cart ${release}\n`); }

const server = http.createServer((req, res) => {
  const url = new URL(req.url, 'http://app');
  switch (url.pathname) {
    case '/': return text(res, `hello ${release}\n`);
    case '/cart': return cart(res);
    case '/slow': {
      const ms = Number(url.searchParams.get('ms') || 1000);
      return setTimeout(() => text(res, `slow ${ms} ${release}\n`), ms);
    }
    case '/upload': {
      const hash = crypto.createHash('sha256');
      let bytes = 0;
      req.on('data', (chunk) => { bytes += chunk.length; hash.update(chunk); });
      return req.on('end', () => text(res, `${bytes} ${hash.digest('hex')}\n`));
    }
  }
  res.writeHead(404, who).end('not found\n');
});

// A WebSocket echo for small messages.
server.on('upgrade', (req, socket, head) => {
  const accept = crypto.createHash('sha1')
    .update(req.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  socket.write(['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade',
    `Sec-WebSocket-Accept: ${accept}`, ...Object.entries(who).map(([k, v]) => `${k}: ${v}`)].join('\r\n') + '\r\n\r\n');
  let buffer = head;
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    buffer = Buffer.concat([buffer, chunk]);
    while (buffer.length >= 6 && buffer.length >= 6 + (buffer[1] & 127)) {
      const size = buffer[1] & 127;
      const payload = Buffer.from(buffer.subarray(6, 6 + size)).map((b, i) => b ^ buffer[2 + (i & 3)]);
      const frame = Buffer.concat([Buffer.from([0x80 | (buffer[0] & 15), size]), payload]);
      const opcode = buffer[0] & 15;
      buffer = buffer.subarray(6 + size);
      if (opcode === 8) return socket.end(frame);
      socket.write(frame);
    }
  });
});

server.listen(process.env.PORT, () => console.log(`${release} listens on ${process.env.PORT}`));

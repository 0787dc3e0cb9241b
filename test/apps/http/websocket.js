// A WebSocket echo without a dependency: small unfragmented messages, ping, close.
'use strict';
const crypto = require('node:crypto');

function echo(req, socket, head, headers) {
  const accept = crypto.createHash('sha1')
    .update(req.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade', `Sec-WebSocket-Accept: ${accept}`];
  for (const name in headers) lines.push(`${name}: ${headers[name]}`);
  socket.write(lines.join('\r\n') + '\r\n\r\n');
  socket.setNoDelay(true);
  let buffer = head;
  const take = () => {
    for (let f; (f = frame(buffer)); ) {
      buffer = buffer.subarray(f.size);
      if (f.opcode === 8) return socket.end(pack(8, f.payload));
      if (f.opcode === 9) socket.write(pack(10, f.payload));
      if (f.opcode === 1 || f.opcode === 2) socket.write(pack(f.opcode, f.payload));
    }
  };
  socket.on('data', (chunk) => { buffer = Buffer.concat([buffer, chunk]); take(); });
  socket.on('error', () => {});
  take();
}

// frame parses the first masked frame of a buffer, or returns null if it is not whole yet.
function frame(b) {
  if (b.length < 6) return null;
  let length = b[1] & 127, at = 2;
  if (length === 126) { length = b.readUInt16BE(2); at = 4; }
  else if (length === 127) { length = Number(b.readBigUInt64BE(2)); at = 10; }
  if (b.length < at + 4 + length) return null;
  const mask = b.subarray(at, at + 4);
  const payload = Buffer.from(b.subarray(at + 4, at + 4 + length));
  for (let i = 0; i < length; i++) payload[i] ^= mask[i & 3];
  return { opcode: b[0] & 15, payload, size: at + 4 + length };
}

function pack(opcode, payload) {
  const n = payload.length;
  const head = n < 126 ? Buffer.from([0x80 | opcode, n]) : Buffer.from([0x80 | opcode, 126, n >> 8, n & 255]);
  return Buffer.concat([head, payload]);
}

module.exports = { echo };

// Next behind its own server, built: `npm run build` first. Same paths as the
// other apps, as route handlers; /page is a rendered page.
'use strict';
const http = require('node:http');
const kit = require('./kit/kit.js');

process.env.NODE_ENV = 'production';
process.env.GAPLESS_RELEASE = kit.release; // the route handlers read these
process.env.GAPLESS_INSTANCE = kit.instance;
const next = require('next');

let server;
kit.boot(async (port) => {
  const app = next({ dev: false, dir: __dirname, port });
  await app.prepare();
  const handle = app.getRequestHandler();
  server = http.createServer((req, res) => { if (!kit.fault(req, res)) handle(req, res); });
  kit.sockets(server);
  server.listen(port, () => console.log(`next ${kit.release} listens on ${server.address().port}`));
});
module.exports = { get server() { return server; } };

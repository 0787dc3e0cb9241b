'use strict';
const Koa = require('koa');
const kit = require('./kit/kit.js');

const app = new Koa();
app.silent = true; // a client that leaves is not worth a stack trace
app.use(async (ctx, next) => {
  if (kit.fault(ctx.req, ctx.res)) { ctx.respond = false; return; }
  await next();
});
app.use(async (ctx) => {
  switch (`${ctx.method} ${ctx.path}`) {
    case 'GET /': ctx.body = kit.bodies.hello(); return;
    case 'GET /healthz': ctx.body = 'ok\n'; return;
    case 'GET /cart': ctx.type = 'json'; ctx.body = kit.bodies.cart(); return;
    case 'GET /events': ctx.respond = false; kit.events(ctx.res, Number(ctx.query.n || Infinity)); return;
    case 'GET /slow': {
      const ms = Number(ctx.query.ms || 1000);
      await new Promise((resolve) => setTimeout(resolve, ms));
      ctx.body = kit.bodies.slow(ms);
      return;
    }
    case 'POST /upload': ctx.body = await kit.upload(ctx.req); return;
  }
});

let server;
kit.boot((port) => {
  server = app.listen(port, () => console.log(`koa ${kit.release} listens on ${server.address()?.port}`));
  kit.sockets(server);
});
module.exports = { get server() { return server; } };

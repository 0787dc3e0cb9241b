'use strict';
const kit = require('./kit/kit.js');
const fastify = require('fastify')({ logger: false, bodyLimit: 16 << 20 });

fastify.addContentTypeParser('*', (req, body, done) => done(null, body)); // uploads stay streams
fastify.addHook('onRequest', async (req, reply) => {
  if (kit.fault(req.raw, reply.raw)) return reply.hijack();
});
fastify.get('/', async (req, reply) => reply.type('text/plain').send(kit.bodies.hello()));
fastify.get('/healthz', async (req, reply) => reply.type('text/plain').send('ok\n'));
fastify.get('/cart', async (req, reply) => reply.type('application/json').send(kit.bodies.cart()));
fastify.get('/events', (req, reply) => {
  reply.hijack();
  kit.events(reply.raw, Number(req.query.n || Infinity));
});
fastify.get('/slow', async (req, reply) => {
  const ms = Number(req.query.ms || 1000);
  await new Promise((resolve) => setTimeout(resolve, ms));
  return reply.type('text/plain').send(kit.bodies.slow(ms));
});
fastify.post('/upload', async (req, reply) => reply.type('text/plain').send(await kit.upload(req.body)));

kit.sockets(fastify.server);
kit.boot(async (port) => {
  await fastify.listen({ port, host: '0.0.0.0' });
  console.log(`fastify ${kit.release} listens on ${fastify.server.address().port}`);
});
module.exports = { get server() { return fastify.server; } };

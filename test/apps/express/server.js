'use strict';
const express = require('express');
const kit = require('./kit/kit.js');

const app = express();
app.use((req, res, next) => { if (!kit.fault(req, res)) next(); });
app.get('/', (req, res) => res.type('text').send(kit.bodies.hello()));
app.get('/healthz', (req, res) => res.type('text').send('ok\n'));
app.get('/cart', (req, res) => res.type('json').send(kit.bodies.cart()));
app.get('/events', (req, res) => kit.events(res, Number(req.query.n || Infinity)));
app.get('/slow', (req, res) => {
  const ms = Number(req.query.ms || 1000);
  setTimeout(() => res.type('text').send(kit.bodies.slow(ms)), ms);
});
app.post('/upload', async (req, res) => res.type('text').send(await kit.upload(req)));

let server;
kit.boot((port) => {
  server = app.listen(port, () => console.log(`express ${kit.release} listens on ${server.address().port}`));
  kit.sockets(server);
});
module.exports = { get server() { return server; } };

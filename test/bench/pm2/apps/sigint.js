// The graceful shutdown that PM2's documentation asks for: PM2 stops a process
// with SIGINT, the app closes its server and leaves when it is empty.
'use strict';
const app = require('./server.js');

process.on('SIGINT', () => app.server.close(() => process.exit(0)));

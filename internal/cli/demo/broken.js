// What makes the demo's v3 broken: three of ten carts fail.
const sound = cart;
cart = (res) => {
  if (Math.random() >= 0.3) return sound(res);
  console.error("TypeError: Cannot read properties of undefined (reading 'price')");
  res.writeHead(500, who).end('internal error\n');
};

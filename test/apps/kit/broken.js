// Loaded by BREAK=syntax: this file cannot be parsed.
const prices = { apple: 1, pear: };

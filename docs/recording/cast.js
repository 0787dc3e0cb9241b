// cast.js OUT TIMING COLUMNS ROWS: what script(1) logged, as an asciicast v2.
// A silence of more than two seconds is shown as two.
const fs = require('fs')
const { StringDecoder } = require('string_decoder')
const [, , outFile, timingFile, width, height] = process.argv
const out = fs.readFileSync(outFile)
let at = out.indexOf('\n') + 1 // the first line is script's own
let now = 0
const text = new StringDecoder('utf8') // a read may end inside a character
console.log(JSON.stringify({ version: 2, width: Number(width), height: Number(height) }))
for (const line of fs.readFileSync(timingFile, 'utf8').trim().split('\n')) {
  const [delay, bytes] = line.split(' ').map(Number)
  now += Math.min(delay, 2)
  console.log(JSON.stringify([now, 'o', text.write(out.subarray(at, at + bytes))]))
  at += bytes
}
console.log(JSON.stringify([now + 4, 'o', ''])) // time to read the end

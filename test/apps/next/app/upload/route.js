import { createHash } from 'node:crypto';
import { answer } from '../../identity.js';

export const dynamic = 'force-dynamic';
export async function POST(request) {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of request.body) {
    bytes += chunk.length;
    hash.update(chunk);
  }
  return answer(`${bytes} ${hash.digest('hex')}\n`);
}

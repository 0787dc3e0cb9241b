import { answer, release } from '../../identity.js';

export const dynamic = 'force-dynamic';
export function GET(request) {
  const count = Number(new URL(request.url).searchParams.get('n') || Infinity);
  let timer, n = 0;
  const stream = new ReadableStream({
    start(events) {
      timer = setInterval(() => {
        events.enqueue(new TextEncoder().encode(`id: ${++n}\ndata: ${n} ${release()}\n\n`));
        if (n >= count) { clearInterval(timer); events.close(); }
      }, 100);
    },
    cancel() { clearInterval(timer); },
  });
  return answer(stream, 'text/event-stream');
}

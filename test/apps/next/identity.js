// Who answers, read when the request comes, not when the app is built.
export const release = () => process.env.GAPLESS_RELEASE || 'v0';

export function answer(body, type = 'text/plain') {
  return new Response(body, { headers: { 'content-type': type, 'x-release': release(), 'x-instance': process.env.GAPLESS_INSTANCE || String(process.pid) } });
}

import { answer, release } from '../../identity.js';

export const dynamic = 'force-dynamic';
export async function GET(request) {
  const ms = Number(new URL(request.url).searchParams.get('ms') || 1000);
  await new Promise((resolve) => setTimeout(resolve, ms));
  return answer(`slow ${ms} ${release()}\n`);
}

import { answer, release } from '../../identity.js';

export const dynamic = 'force-dynamic';
export const GET = () => answer(`cart ${release()}\n`);

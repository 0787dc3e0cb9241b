import { answer } from '../../identity.js';

export const dynamic = 'force-dynamic';
export const GET = () => answer('ok\n');

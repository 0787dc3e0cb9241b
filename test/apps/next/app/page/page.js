import { release } from '../../identity.js';

export const dynamic = 'force-dynamic';

export default function Page() {
  return <h1>hello {release()}</h1>;
}

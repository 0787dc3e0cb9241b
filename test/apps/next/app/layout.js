export const metadata = { title: 'gapless test app' };

export default function Layout({ children }) {
  return <html lang="en"><body>{children}</body></html>;
}

// Package pm2 reads PM2's ecosystem file and says it again as gapless.yaml:
// Evaluate runs the file, Convert (pure but for looking whether files exist)
// makes the text and accounts for every field: carried, not needed, or left
// out and why. It starts and changes nothing of PM2. The command line calls it.
package pm2

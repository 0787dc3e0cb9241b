// Package sim plays rollouts with the production engine on the production
// store: its own tests model the journal in memory, these prove the model.
package sim

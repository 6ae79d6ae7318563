// Package apply takes events from the stream, and takes what they invalidate out of the caches.
//
// Its promise: it reports a message as handled only once every cache that a rule names has answered that the keys and their
// guards are gone, and the feed has what was applied. Whatever it cannot do exactly it does wider; whatever it cannot do
// now it does again. All that it does commutes and is idempotent, so any number of appliers may take any messages in any
// order, and again.
package apply

package rollout

// point is a place around an action at which a daemon may die. There is no
// result in the journal: the state that is saved is the intent, and the result
// is observed again. So the last point is before that observation.
type point string

const (
	beforeIntent  point = "before-intent"  // decided, not saved
	beforeEffect  point = "before-effect"  // saved, not done
	afterEffect   point = "after-effect"   // done, the next action is not
	beforeObserve point = "before-observe" // all of the round is done, nothing of it was seen
)

// actSave is the save itself: it has its own two points, before and after it.
const actSave ActionKind = "save"

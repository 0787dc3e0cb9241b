package pm2

// Fate is what becomes of a field.
type Fate string

// Fates.
const (
	Carried  Fate = "carried"  // it is in gapless.yaml
	Needless Fate = "needless" // gapless does it by itself
	Left     Fate = "left out" // it cannot be carried over
)

// rule says what becomes of a field, and for Needless and Left why.
type rule struct {
	fate Fate
	why  string
}

// fields are all fields of PM2 7's schema. env_* is decided where the
// environment is chosen.
var fields = map[string]rule{
	"script":             {Carried, "run"},
	"args":               {Carried, "run"},
	"interpreter":        {Carried, "run"},
	"node_args":          {Carried, "run"},
	"name":               {Carried, "app, or the name of the process"},
	"cwd":                {Carried, "the directory of gapless.yaml"},
	"exec_mode":          {Carried, "instances: each is a process of its own behind the edge, so cluster needs no code"},
	"instances":          {Carried, "instances"},
	"env":                {Carried, "env"},
	"port":               {Carried, "listen"},
	"cron_restart":       {Carried, "cron, of a process with autorestart: false"},
	"max_memory_restart": {Carried, "memory"},
	"kill_timeout":       {Carried, "grace"},
	"listen_timeout":     {Carried, "start_timeout"},
	"uid":                {Carried, "user"},
	"username":           {Carried, "user"},

	"wait_ready":                {Needless, "an instance is ready when it listens and answers, which is measured; process.send('ready') does no harm"},
	"autostart":                 {Needless, "gapless up starts the app, and gapless install starts it with the machine"},
	"autorestart":               {Needless, "what ends is started again"},
	"min_uptime":                {Needless, "what crashes is started again with growing pauses, 100 ms to 30 s; in a rollout it is taken back at once"},
	"max_restarts":              {Needless, "what crashes is started again with growing pauses, 100 ms to 30 s, and never given up"},
	"restart_delay":             {Needless, "what crashes is started again with growing pauses, 100 ms to 30 s"},
	"exp_backoff_restart_delay": {Needless, "what crashes is started again with growing pauses, 100 ms to 30 s"},
	"kill_retry_time":           {Needless, "after grace, SIGKILL ends the whole group at once"},
	"treekill":                  {Needless, "an instance is stopped with its whole process group"},
	"force":                     {Needless, "every deploy is a new release of its own"},
	"merge_logs":                {Needless, "all output of an app is in one log, each line with its instance"},
	"time":                      {Needless, "every line of gapless logs has its time"},
	"log_date_format":           {Needless, "every line of gapless logs has its time, in one format"},
	"vizion":                    {Needless, "a release is a copy of the directory, whatever its version control says"},
	"windowsHide":               {Needless, "gapless does not run on Windows"},
	"pmx":                       {Needless, "nothing is injected into the app"},
	"automation":                {Needless, "nothing is injected into the app"},
	"filter_env":                {Needless, "the environment of the shell never gets in"},
	"pid_file":                  {Needless, "gapless status --json has the process ids"},

	"namespace":             {Left, "apps have no groups; name them in commands"},
	"name_prefix":           {Left, "an app has one name; it was taken from name"},
	"append_env_to_name":    {Left, "an app has one name; start a second one with gapless up --name"},
	"increment_var":         {Left, "instances of a release have the same environment; each gets a PORT of its own"},
	"instance_var":          {Left, "NODE_APP_INSTANCE is not set; GAPLESS_INSTANCE names the instance. Work that only one may do belongs in a process with singleton: true"},
	"watch":                 {Left, "a release never changes; ship changes with gapless deploy"},
	"ignore_watch":          {Left, "nothing is watched: a release never changes"},
	"watch_delay":           {Left, "nothing is watched: a release never changes"},
	"watch_options":         {Left, "nothing is watched: a release never changes"},
	"stop_exit_codes":       {Left, "a process that ends is started again whatever its exit code; what should run once per release is build or a hook"},
	"shutdown_with_message": {Left, "an instance is told to stop by SIGTERM, when nothing is in flight in it any more"},
	"out_file":              {Left, "output goes to the app's log: gapless logs; logs: bounds it"},
	"error_file":            {Left, "output goes to the app's log: gapless logs --stream err"},
	"log_file":              {Left, "output goes to the app's log: gapless logs"},
	"log_type":              {Left, "lines are kept as they are printed; gapless logs --json has them as JSON"},
	"disable_logs":          {Left, "output is always kept; logs: { max_size: 64K, keep: 0 } keeps least"},
	"post_update":           {Left, "build: runs in every new release before it starts"},
	"gid":                   {Left, "instances run with the groups of user"},
	"source_map_support":    {Left, "nothing is injected into the app; node has it: set NODE_OPTIONS to --enable-source-maps"},
	"trace":                 {Left, "no tracing is built in; start it in the app or with NODE_OPTIONS"},
	"v8":                    {Left, "it is of PM2 Plus, and nothing is injected into the app"},
	"event_loop_inspector":  {Left, "it is of PM2 Plus, and nothing is injected into the app"},
	"deep_monitoring":       {Left, "it is of PM2 Plus, and nothing is injected into the app"},
	"io":                    {Left, "it is of PM2 Plus, and nothing is injected into the app"},
	"deploy":                {Left, "gapless deploys the directory that it runs in: let your CI, or ssh and git pull, bring the code there and type gapless deploy"},
}

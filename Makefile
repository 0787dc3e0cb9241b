# make demo · make test: the two commands a stranger needs.
GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X gapless/internal/cli.Version=$(VERSION)

# Tests of the whole thing under load run one after the other, by themselves,
# and never from go's cache: they build the binary, which it does not see.
WHOLE = ./test/real ./test/fault
PARTS = $(shell $(GO) list ./... | grep -v -e /test/real -e /test/fault)

.PHONY: all build demo test test-all check fuzz sim soak bench bench-pm2 bench-edge bench-judge bench-judge-all man docs recording clean

all: build

build: ## leaves bin/gapless
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/gapless ./cmd/gapless

demo: build ## a good version goes out, a broken one comes back, nothing is dropped
	bin/gapless demo

test: check ## installs what it needs and runs every test (a pairwise choice of the big matrices)
	test/apps/install.sh
	test/install.sh
	$(GO) test -timeout 10m ./internal/rollout ./test/sim
	$(GO) test -run 'AllocateNothing|AreSmall|IdleMemory|CoinOfSessions|CostsTheSame|TestCorpus$$' ./internal/edge ./internal/keeper
	$(MAKE) fuzz FUZZ=20000
	$(GO) test -race -timeout 20m $(PARTS)
	$(GO) test -count=1 -p 1 -timeout 30m $(WHOLE)

test-all: check ## everything: full matrices, longer simulations
	test/apps/install.sh
	test/install.sh
	GAPLESS_TEST_ALL=1 $(GO) test -race -timeout 30m $(PARTS)
	GAPLESS_TEST_ALL=1 $(GO) test -count=1 -p 1 -timeout 4h $(WHOLE)

# Counts, not times: Go 1.26 now and then calls the end of a time a failure
# (golang/go#75804). One input for both drivers costs as much as ten of a parser.
FUZZ ?= 400000
fuzz: ## looks for bytes that the edge's parsers, or its two drivers, read differently; FUZZ=10000 tries so many on the drivers and ten times as many on each parser
	$(GO) test -run '^$$' -fuzz '^FuzzRequest$$' -fuzztime $(FUZZ)0x ./internal/edge/h1
	$(GO) test -run '^$$' -fuzz '^FuzzResponse$$' -fuzztime $(FUZZ)0x ./internal/edge/h1
	$(GO) test -run '^$$' -fuzz '^FuzzChunk$$' -fuzztime $(FUZZ)0x ./internal/edge/h1
	$(GO) test -run '^$$' -fuzz '^FuzzDrivers$$' -fuzztime $(FUZZ)x ./internal/edge

sim: ## a million random rollouts on a model of the machine, twenty thousand with the journal on SQLite; GAPLESS_SIM_SEED=n tells one
	GAPLESS_SIM_N=$${GAPLESS_SIM_N:-1000000} $(GO) test -count=1 -timeout 3h -v -run 'TestSimulation$$|TestPlantedBugs' ./internal/rollout
	GAPLESS_SIM_STORE_N=$${GAPLESS_SIM_STORE_N:-20000} $(GO) test -count=1 -timeout 1h -v -run TestEngineOnStore ./test/sim

soak: ## ten minutes of load with a deployment every five seconds: nothing grows, nothing is lost; GAPLESS_SOAK=1h says another time
	test/apps/install.sh http
	GAPLESS_SOAK=$${GAPLESS_SOAK:-10m} $(GO) test -count=1 -timeout 0 -v -run 'TestSoak$$' ./test/fault

check: build ## formatting, vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not gofmt-ed: $$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

bench: build ## memory, CPU per request against nginx, restart against pm2
	test/install.sh bench
	test/apps/install.sh http express
	$(GO) run ./test/bench/edge --only keep-alive
	$(GO) run ./test/bench/system

bench-edge: build ## what a request costs: nginx, haproxy, caddy and gapless in the same run
	test/install.sh bench
	$(GO) run ./test/bench/edge --write docs/performance.md

bench-pm2: build ## what users lose with PM2 and with gapless, in the same run
	test/apps/install.sh
	$(GO) run ./test/bench/pm2 --write docs/comparison.md

bench-judge: ## how often a judge cries wolf, what it lets through and how long it takes: ours and other tools' rules on the same streams
	$(GO) run ./test/bench/judge --write docs/judge.md
	GAPLESS_TIMES=1 $(GO) test -run '^$$' -bench 'Age$$|Judge$$' ./internal/edge ./internal/judge
	GAPLESS_TIMES=1 $(GO) test -count=1 -v -run 'TestJudgeTakesBackBroken' ./test/real

bench-judge-all: ## the same with every combination
	$(GO) run ./test/bench/judge --all

man: build ## a man page for each command, in man/
	bin/gapless man man

docs: build ## the generated part of the reference: commands and exit codes
	bin/gapless docs docs/reference

recording: build ## the picture in the README: runs the demo and draws what it prints
	docs/recording/record.sh docs/demo.svg

clean:
	rm -rf bin man

# Thin: the work is in scripts/ and in the crates. Each target installs what it misses.

# What `make demo` shows, and how much of it.
BACKEND ?= embedded
RUNTIME ?= netns
CLUSTER ?= none
NODES ?= 2
PODS ?= 30
export BACKEND RUNTIME CLUSTER NODES PODS ONLY KILLS SEED SEEDS FROM AT

.PHONY: help demo test bench lint build clean sim mutants soak fuzz image

help:
	@echo "make demo [NODES=2] [PODS=30]   a VPC, two nodes and thirty pods on this machine; BACKEND=localstack: LocalStack as its EC2"
	@echo "make test                       every check"
	@echo "make bench [ONLY=name]          the figures, also in target/bench.json"
	@echo "make soak [KILLS=1000] [SEED=n] daemons killed under pods in churn and a sick EC2; then everything has to agree"
	@echo "make sim [SEEDS=2000] [SEED=n]  whole nodes in virtual time, on many seeds or with the trace of one"
	@echo "make mutants [ONLY=name]        broken programs, each noticed by the simulation"
	@echo "make lint                       format, clippy, documentation, licences"
	@echo "make build                      the programs"
	@echo "make clean                      what was built, and what a lab left behind"

demo test bench soak build sim mutants:
	@scripts/$@

lint:
	@scripts/setup
	@scripts/lint

clean:
	@scripts/clean

fuzz image:
	@echo "make $@: not yet" >&2
	@exit 2

# The verbs of this project. Each installs what it lacks, and says nothing about what is there already.
#
#   make up       build Forebay, start it with a small real model, print how to connect
#   make down     stop both; the data stays in .forebay/
#   make test     everything that a change is held to; ends with 'N passed, N failed'
#   make check    format, spelling, lints, dependencies; no tests
#   make dist     build what is handed out, for the work that it does; prints where it is (45 minutes on two cores)
#   make bench    the figures of docs/performance.md
#   make schema   write schema/*.json anew, after a change to the API or the configuration

.PHONY: help up down test check dist bench schema
.DEFAULT_GOAL := help

help:
	@sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile

up:
	@scripts/up

down:
	@scripts/down

test:
	@scripts/test

check:
	@scripts/setup test
	@scripts/check

dist:
	@scripts/dist

bench:
	@scripts/setup test
	@bash -c 'source scripts/lib.sh && exec benches/run'

schema:
	@scripts/schema

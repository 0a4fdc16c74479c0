"""Generated breakages: does the conformance kit notice every one of them?

A *mutant* is a backend's package with one change: a statement deleted, or a
comparison flipped, in `send`, `reserve`, `settle`, `extend` and what they call.
The kit is run against each until it finds something wrong. One that survives is
a hole in the kit, code that does nothing, or equivalent: then
`equivalent.toml` says why nobody could tell.

``nox -s mutants -- --target sqlite`` runs them; nothing in the checkout is
changed by that, since mutants live in copies of the package.
"""

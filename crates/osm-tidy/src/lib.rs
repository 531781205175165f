//! The house rules that are tests; see `tests/`. Rules live here and in lints, not in reviews.

//! The command against the real kernel: pods that are processes, and nothing left of them. Needs root; says so and
//! passes otherwise.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test, which is what a test is for")]

mod api;
mod cleanup;
mod lab;
mod mesh;
mod pods;
mod startup;
mod words;

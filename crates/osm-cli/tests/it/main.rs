//! The command against the real kernel: pods that are processes, and nothing left of them. Needs root; says so and
//! passes otherwise.

mod cleanup;
mod lab;
mod pods;
mod words;

//! What translate makes of views: golden files, which the real Envoy accepts too, and the laws that hold for every view.

mod envoy;
mod golden;
mod lab;
mod laws;
mod scale;
mod traffic;
mod view;

//! The test helpers, tested: each of these fails where its helper does nothing.

mod hosts;
mod kube;
mod process;
mod proxy;
mod redis_group;
mod redis_server;
mod wait;

//! Pure rules of the operator: desired objects, status, schedules, images in a Pod.

pub mod admission;
pub mod images;
pub mod replication;
pub mod webhook_configuration;

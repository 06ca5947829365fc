//! Pure rules of the operator: desired objects, status, schedules, images in a Pod.

pub mod admission;
pub mod asking;
pub mod certificate;
pub mod conditions;
pub mod decision;
pub mod image_policy;
pub mod images;
pub mod labels;
pub mod memory;
pub mod objects;
pub mod pod;
pub mod pulling;
pub mod rbac;
pub mod registry;
pub mod replicate_job;
pub mod replication;
pub mod running;
pub mod token_review;
pub mod webhook_configuration;

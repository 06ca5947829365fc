//! Manifests as clients push and registries serve them. Input: a Content-Type, a body.

use berth_registry_core::{Descriptor, Manifest, manifest::MAX_DESCRIPTORS};
use berth_trust::Artifact;

pub(crate) fn run(mut input: &[u8]) {
    let Some(announced) = crate::text(&mut input) else { return };
    let announced = Some(announced).filter(|announced| !announced.is_empty());
    let Ok(manifest) = Manifest::parse(announced, input) else { return };
    assert_eq!(Manifest::parse(Some(&manifest.media_type), input).as_ref(), Ok(&manifest));
    assert!(manifest.layers.len() + manifest.manifests.len() <= MAX_DESCRIPTORS);
    assert!(manifest.blobs().count() <= manifest.layers.len() + 1);
    if Artifact::statements(&manifest).next().is_some() {
        assert!(Artifact::is_evidence(&manifest));
    }
    let descriptors = manifest.config.iter().chain(&manifest.subject).chain(&manifest.layers);
    for descriptor in descriptors.chain(&manifest.manifests) {
        let written = serde_json::to_vec(descriptor).unwrap();
        assert_eq!(&serde_json::from_slice::<Descriptor>(&written).unwrap(), descriptor);
    }
}

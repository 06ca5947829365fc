//! Every image that an object of the API would make a kubelet pull.
//! First step of admission: `admission` diffs the lists of the new and the old object, the policy then says which
//! images it governs. Reads a Pod and everything that holds a Pod's template, whatever else the object contains.

use std::fmt;

use serde::Deserialize;

/// Where in a Pod an image is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// `containers[].image`.
    Container,
    /// `initContainers[].image`, sidecars among them.
    InitContainer,
    /// `ephemeralContainers[].image`.
    EphemeralContainer,
    /// `volumes[].image.reference`.
    ImageVolume,
}

/// One image as an object names it; an object that names an image twice has two of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageUse {
    /// Which list of the Pod names it.
    pub place: Place,
    /// Name of the container or of the volume.
    pub name: String,
    /// Path of the field, for example `spec.template.spec.containers[0].image`.
    pub path: String,
    /// The text as written; empty where the field is missing.
    pub image: String,
}

impl fmt::Display for ImageUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Container => "container",
            Place::InitContainer => "init container",
            Place::EphemeralContainer => "ephemeral container",
            Place::ImageVolume => "image volume",
        };
        write!(f, "{place} {}", self.name)
    }
}

/// Lists the images of a Pod, or of the Pod templates within a controller, in the order of the lists.
/// Unknown fields are skipped; a field that matters here and stands twice, or has the wrong type, is an error.
pub fn images(object: &str) -> Result<Vec<ImageUse>, serde_json::Error> {
    let object: Object = serde_json::from_str(object)?;
    let mut uses = Vec::new();
    object.collect("", &mut uses);
    Ok(uses)
}

/// The images that `new` names and `old` does not name at the same place under the same name.
/// A container that keeps its image is no new decision; a second container that takes up the same image is one.
pub fn changed(new: Vec<ImageUse>, old: &[ImageUse]) -> Vec<ImageUse> {
    let same = |a: &ImageUse, b: &ImageUse| (a.place, &a.name, &a.image) == (b.place, &b.name, &b.image);
    new.into_iter().filter(|image| !old.iter().any(|before| same(image, before))).collect()
}

/// A Pod, a template, or an object with a template inside.
#[derive(Deserialize)]
struct Object {
    spec: Option<Spec>,
}

/// The fields of all specs together: a Pod's lists, a controller's `template`, a `CronJob`'s `jobTemplate`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    ephemeral_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    template: Option<Box<Object>>,
    job_template: Option<Box<Object>>,
}

#[derive(Deserialize)]
struct Container {
    name: Option<String>,
    image: Option<String>,
}

#[derive(Deserialize)]
struct Volume {
    name: Option<String>,
    image: Option<ImageVolume>,
}

#[derive(Deserialize)]
struct ImageVolume {
    reference: Option<String>,
}

impl Object {
    fn collect(self, prefix: &str, uses: &mut Vec<ImageUse>) {
        let Some(spec) = self.spec else { return };
        let lists = [
            (Place::Container, "containers", spec.containers),
            (Place::InitContainer, "initContainers", spec.init_containers),
            (Place::EphemeralContainer, "ephemeralContainers", spec.ephemeral_containers),
        ];
        for (place, list, containers) in lists {
            for (index, container) in containers.into_iter().flatten().enumerate() {
                uses.push(ImageUse {
                    place,
                    name: container.name.unwrap_or_default(),
                    path: format!("{prefix}spec.{list}[{index}].image"),
                    image: container.image.unwrap_or_default(),
                });
            }
        }
        for (index, volume) in spec.volumes.into_iter().flatten().enumerate() {
            let Some(image) = volume.image else { continue };
            uses.push(ImageUse {
                place: Place::ImageVolume,
                name: volume.name.unwrap_or_default(),
                path: format!("{prefix}spec.volumes[{index}].image.reference"),
                image: image.reference.unwrap_or_default(),
            });
        }
        for (field, holder) in [("template", spec.template), ("jobTemplate", spec.job_template)] {
            if let Some(holder) = holder {
                holder.collect(&format!("{prefix}spec.{field}."), uses);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn pod_spec() -> Value {
        json!({
            "containers": [{"name": "web", "image": "r.io/web:1"}, {"name": "log", "image": "r.io/web:1"}],
            "initContainers": [{"name": "setup", "image": "r.io/setup"}],
            "ephemeralContainers": [{"name": "debug", "image": "busybox", "targetContainerName": "web"}],
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "model", "image": {"reference": "r.io/model@sha256:0"}}],
        })
    }

    /// Every list of a Pod, wherever the kind of object keeps the Pod (R-OPR-6).
    #[rstest]
    #[case::pod("", json!({"spec": pod_spec()}))]
    #[case::deployment("spec.template.", json!({"kind": "Deployment", "spec": {"replicas": 2, "template": {"metadata": {}, "spec": pod_spec()}}}))]
    #[case::stateful_set("spec.template.", json!({"kind": "StatefulSet", "spec": {"volumeClaimTemplates": [{"spec": {}}], "template": {"spec": pod_spec()}}}))]
    #[case::daemon_set("spec.template.", json!({"kind": "DaemonSet", "spec": {"updateStrategy": {}, "template": {"spec": pod_spec()}}}))]
    #[case::replica_set("spec.template.", json!({"kind": "ReplicaSet", "spec": {"template": {"spec": pod_spec()}}}))]
    #[case::replication_controller("spec.template.", json!({"kind": "ReplicationController", "spec": {"selector": {"a": "b"}, "template": {"spec": pod_spec()}}}))]
    #[case::job("spec.template.", json!({"kind": "Job", "spec": {"suspend": true, "template": {"spec": pod_spec()}}}))]
    #[case::cron_job("spec.jobTemplate.spec.template.", json!({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": pod_spec()}}}}}))]
    fn finds_every_image(#[case] prefix: &str, #[case] object: Value) {
        let found: Vec<_> = images(&object.to_string())
            .unwrap()
            .into_iter()
            .map(|image| (image.to_string(), image.path, image.image))
            .collect();
        let expected = [
            ("container web", "containers[0].image", "r.io/web:1"),
            ("container log", "containers[1].image", "r.io/web:1"),
            ("init container setup", "initContainers[0].image", "r.io/setup"),
            ("ephemeral container debug", "ephemeralContainers[0].image", "busybox"),
            ("image volume model", "volumes[1].image.reference", "r.io/model@sha256:0"),
        ]
        .map(|(shown, path, image)| (shown.to_owned(), format!("{prefix}spec.{path}"), image.to_owned()));
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case::no_spec(json!({}))]
    #[case::null_spec(json!({"spec": null}))]
    #[case::null_template(json!({"spec": {"template": null}}))]
    #[case::null_lists(json!({"spec": {"containers": null, "volumes": null}}))]
    fn nothing_is_no_error(#[case] object: Value) {
        assert_eq!(images(&object.to_string()).unwrap(), []);
    }

    #[test]
    fn a_container_without_an_image_is_listed() {
        let found = images(r#"{"spec":{"containers":[{"name":"a"}]}}"#).unwrap();
        assert_eq!((found.len(), found[0].image.as_str()), (1, ""));
    }

    /// What two readers could read in two ways is refused.
    #[rstest]
    #[case::image(r#"{"spec":{"containers":[{"name":"a","image":"good","image":"bad"}]}}"#)]
    #[case::containers(r#"{"spec":{"containers":[],"containers":[{"name":"a","image":"bad"}]}}"#)]
    #[case::spec(r#"{"spec":{},"spec":{"containers":[]}}"#)]
    #[case::template(r#"{"spec":{"template":{},"template":{}}}"#)]
    #[case::reference(r#"{"spec":{"volumes":[{"image":{"reference":"a","reference":"b"}}]}}"#)]
    #[case::volume_image(r#"{"spec":{"volumes":[{"image":{},"image":{}}]}}"#)]
    #[case::escaped(r#"{"spec":{"containers":[{"image":"good","\u0069mage":"bad"}]}}"#)]
    fn refuses_duplicate_keys(#[case] object: &str) {
        assert!(images(object).unwrap_err().to_string().contains("duplicate field"), "{object}");
    }

    #[rstest]
    #[case(r#"{"spec":{"containers":{"name":"a"}}}"#)]
    #[case(r#"{"spec":{"containers":[{"image":1}]}}"#)]
    #[case(r#"{"spec":{"containers":[null]}}"#)]
    #[case(r#"{"spec":{"containers":["#)]
    #[case(r#"{"spec":{}} {}"#)]
    #[case("7")]
    #[case("")]
    fn refuses_other_shapes(#[case] object: &str) {
        assert!(images(object).is_err(), "{object}");
    }

    #[test]
    fn very_deep_objects_are_an_error_not_an_overflow() {
        let deep = r#"{"spec":{"template":"#.repeat(20_000);
        assert!(images(&deep).is_err());
    }

    fn uses(list: &[(Place, &str, &str)]) -> Vec<ImageUse> {
        list.iter()
            .enumerate()
            .map(|(index, (place, name, image))| ImageUse {
                place: *place,
                name: (*name).to_owned(),
                path: format!("[{index}]"),
                image: (*image).to_owned(),
            })
            .collect()
    }

    #[rstest]
    #[case::same(&[(Place::Container, "a", "x")], &[(Place::Container, "a", "x")], 0)]
    #[case::order(&[(Place::Container, "a", "x"), (Place::Container, "b", "y")], &[(Place::Container, "b", "y"), (Place::Container, "a", "x")], 0)]
    #[case::other_image(&[(Place::Container, "a", "y")], &[(Place::Container, "a", "x")], 1)]
    #[case::new_container(&[(Place::Container, "a", "x"), (Place::Container, "b", "x")], &[(Place::Container, "a", "x")], 1)]
    #[case::other_place(&[(Place::InitContainer, "a", "x")], &[(Place::Container, "a", "x")], 1)]
    #[case::swapped(&[(Place::Container, "a", "y"), (Place::Container, "b", "x")], &[(Place::Container, "a", "x"), (Place::Container, "b", "y")], 2)]
    #[case::removed(&[], &[(Place::Container, "a", "x")], 0)]
    #[case::all_new(&[(Place::Container, "a", "x"), (Place::ImageVolume, "a", "x")], &[], 2)]
    fn differences(
        #[case] new: &[(Place, &str, &str)],
        #[case] old: &[(Place, &str, &str)],
        #[case] count: usize,
    ) {
        assert_eq!(changed(uses(new), &uses(old)).len(), count);
    }

    /// Any JSON, with the field names that matter made likely.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        let keys = prop_oneof![
            Just("spec"),
            Just("template"),
            Just("jobTemplate"),
            Just("containers"),
            Just("initContainers"),
            Just("ephemeralContainers"),
            Just("volumes"),
            Just("image"),
            Just("reference"),
            Just("name"),
            Just("x"),
        ];
        leaf.prop_recursive(8, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn never_panics_on_json(value in any_json()) {
            let _ = images(&value.to_string());
        }

        #[test]
        fn never_panics_on_text(text in ".{0,200}") {
            let _ = images(&text);
        }

        /// No image of a Pod is missed, whatever its other fields hold.
        #[test]
        fn finds_images_beside_anything(noise in any_json(), image in "[a-z]{1,8}") {
            let object = json!({"metadata": noise, "spec": {"other": noise, "containers": [{"name": "a", "env": noise, "image": image}]}});
            prop_assert_eq!(&images(&object.to_string()).unwrap()[0].image, &image);
        }
    }
}

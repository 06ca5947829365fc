//! The cluster's certificates and kubeconfigs. Each component proves who it is by a certificate of one
//! authority; the API server proves itself to extension servers by one of a second, as Kubernetes asks.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use super::{API_ADDRESS, ClusterError, NODE_ADDRESS, NODE_NAME, State};

const API_NAMES: &[&str] = &[
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    NODE_ADDRESS,
    API_ADDRESS,
];

/// Writes everything to `pki/` in the state folder.
pub(super) fn write(state: &State) -> Result<(), ClusterError> {
    let node = format!("system:node:{NODE_NAME}");
    let authority = authority(state, "ca")?;
    server(state, &authority, "apiserver", "kube-apiserver", None, API_NAMES)?;
    server(state, &authority, "kubelet-server", &node, Some("system:nodes"), &[NODE_NAME, NODE_ADDRESS])?;
    for (file, name, group) in [
        ("admin", "admin", Some("system:masters")),
        ("apiserver-kubelet", "kube-apiserver-kubelet", Some("system:masters")),
        ("kubelet", node.as_str(), Some("system:nodes")),
        ("controllers", "system:kube-controller-manager", None),
        ("scheduler", "system:kube-scheduler", None),
        ("proxy", "system:kube-proxy", None),
    ] {
        client(state, &authority, file, name, group)?;
        kubeconfig(state, file)?;
    }
    let front = self::authority(state, "front")?;
    client(state, &front, "front-client", "front-proxy-client", None)?;
    let accounts = KeyPair::generate()?;
    state.write("pki/sa.key", accounts.serialize_pem())?;
    state.write("pki/sa.pub", accounts.public_key_pem())?;
    Ok(())
}

fn authority(state: &State, name: &str) -> Result<Issuer<'static, KeyPair>, ClusterError> {
    let key = KeyPair::generate()?;
    let mut params = subject(name, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    state.write(&format!("pki/{name}.crt"), params.self_signed(&key)?.pem())?;
    state.write(&format!("pki/{name}.key"), key.serialize_pem())?;
    Ok(Issuer::new(params, key))
}

fn server(
    state: &State,
    authority: &Issuer<'static, KeyPair>,
    file: &str,
    name: &str,
    group: Option<&str>,
    addresses: &[&str],
) -> Result<(), ClusterError> {
    let mut params = CertificateParams::new(addresses.iter().map(|&name| name.into()).collect::<Vec<_>>())?;
    params.distinguished_name = subject(name, group).distinguished_name;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(state, authority, file, params)
}

fn client(
    state: &State,
    authority: &Issuer<'static, KeyPair>,
    file: &str,
    name: &str,
    group: Option<&str>,
) -> Result<(), ClusterError> {
    let mut params = subject(name, group);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(state, authority, file, params)
}

fn sign(
    state: &State,
    authority: &Issuer<'static, KeyPair>,
    file: &str,
    mut params: CertificateParams,
) -> Result<(), ClusterError> {
    let key = KeyPair::generate()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    state.write(&format!("pki/{file}.crt"), params.signed_by(&key, authority)?.pem())?;
    state.write(&format!("pki/{file}.key"), key.serialize_pem())?;
    Ok(())
}

fn subject(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params
}

fn kubeconfig(state: &State, user: &str) -> Result<(), ClusterError> {
    let pki = |file: &str| state.path("pki").join(file);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "berth",
        "clusters": [{"name": "berth", "cluster": {
            "server": format!("https://{NODE_ADDRESS}:6443"),
            "certificate-authority": pki("ca.crt"),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate": pki(&format!("{user}.crt")),
            "client-key": pki(&format!("{user}.key")),
        }}],
        "contexts": [{"name": "berth", "context": {"cluster": "berth", "user": user}}],
    });
    state.write(&format!("pki/{user}.kubeconfig"), config.to_string())?;
    Ok(())
}

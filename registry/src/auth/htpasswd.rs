//! Users with bcrypt hashes in an htpasswd file, re-read when it changes. A check is slow on purpose, so it runs off
//! the event loop, a few at once, and a success is remembered until the file changes.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::{hmac, rand::SystemRandom};
use tokio::sync::Semaphore;

use super::AuthError;
use crate::reload::{Files, Unreadable};

/// A hash of a higher cost would keep a core busy for seconds.
const MAX_COST: u32 = 15;
const MAX_REMEMBERED: usize = 4096;
/// How long a login waits for its turn before it is sent away.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why users cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The file cannot be read.
    #[error("{0}: give a readable file with --htpasswd")]
    Unreadable(#[from] Unreadable),
    /// The system has no randomness to give.
    #[error("the system's random number generator failed")]
    Random,
}

/// The users of this registry.
#[derive(Clone)]
pub struct Users(Arc<Inner>);

struct Inner {
    list: RwLock<Arc<List>>,
    turns: Semaphore,
    key: hmac::Key,
}

/// One reading of the file. What was verified against it is forgotten with it.
struct List {
    hashes: HashMap<String, String>,
    verified: Mutex<HashSet<[u8; 32]>>,
}

impl Users {
    /// Reads the file and follows its changes.
    pub async fn open(path: PathBuf) -> Result<Self, UsersError> {
        let (mut files, contents) = Files::read(vec![path.clone()]).await?;
        let users = Self::new(parse(&contents.concat()))?;
        let (follower, weak) = (path, Arc::downgrade(&users.0));
        tokio::spawn(async move {
            loop {
                let contents = files.changed().await;
                let Some(inner) = weak.upgrade() else { return };
                let list = List::new(parse(&contents.concat()));
                tracing::info!(file = %follower.display(), users = list.hashes.len(), "users read anew");
                *inner.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
            }
        });
        Ok(users)
    }

    fn new(hashes: HashMap<String, String>) -> Result<Self, UsersError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let key =
            hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| UsersError::Random)?;
        let list = RwLock::new(Arc::new(List::new(hashes)));
        Ok(Self(Arc::new(Inner { list, turns: Semaphore::new(cores), key })))
    }

    /// Checks a password. An unknown user costs as much as a known one.
    pub async fn check(&self, user: &str, password: String) -> Result<(), AuthError> {
        let list = self.0.list.read().unwrap_or_else(PoisonError::into_inner).clone();
        let fingerprint = self.fingerprint(user, &password);
        if list.remembers(&fingerprint) {
            return Ok(());
        }
        let turn = tokio::time::timeout(PATIENCE, self.0.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(AuthError::Busy) };
        // Many requests of one client arrive together: the first of them has answered for all.
        if list.remembers(&fingerprint) {
            return Ok(());
        }
        let known = list.hashes.get(user);
        let Some(hash) = known.or_else(|| list.hashes.values().next()).cloned() else {
            return Err(AuthError::Refused);
        };
        let check = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false));
        if check.await.unwrap_or(false) && known.is_some() {
            list.remember(fingerprint);
            return Ok(());
        }
        Err(AuthError::Refused)
    }

    /// A keyed hash, so that memory never holds what could be tried offline.
    fn fingerprint(&self, user: &str, password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0.key);
        context.update(&(user.len() as u64).to_be_bytes());
        context.update(user.as_bytes());
        context.update(password.as_bytes());
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.sign().as_ref());
        fingerprint
    }
}

impl List {
    fn new(hashes: HashMap<String, String>) -> Self {
        Self { hashes, verified: Mutex::default() }
    }

    fn remembers(&self, fingerprint: &[u8; 32]) -> bool {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains(fingerprint)
    }

    fn remember(&self, fingerprint: [u8; 32]) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= MAX_REMEMBERED {
            verified.clear();
        }
        verified.insert(fingerprint);
    }
}

/// Reads `user:hash` lines. A line that is not usable locks out its user only, and says so in the log.
fn parse(content: &[u8]) -> HashMap<String, String> {
    let content = String::from_utf8_lossy(content);
    let mut hashes = HashMap::new();
    for (number, line) in content.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((user, hash)) = line.split_once(':').filter(|(user, _)| !user.is_empty()) else {
            tracing::error!(
                line = number,
                "htpasswd line ignored: write user:hash, as `htpasswd -nB USER` prints it"
            );
            continue;
        };
        match hash.parse::<bcrypt::HashParts>() {
            Ok(parts) if parts.get_cost() <= MAX_COST => {
                if hashes.insert(user.to_owned(), hash.to_owned()).is_some() {
                    tracing::error!(
                        line = number,
                        user,
                        "htpasswd names this user twice: the later line counts"
                    );
                }
            }
            Ok(parts) => tracing::error!(
                line = number,
                user,
                cost = parts.get_cost(),
                "htpasswd user ignored: the bcrypt cost is above {MAX_COST}, hash the password with `htpasswd -nB -C 10`"
            ),
            Err(_) => tracing::error!(
                line = number,
                user,
                "htpasswd user ignored: the hash is not bcrypt, hash the password with `htpasswd -nB`"
            ),
        }
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(users: &[(&str, &str)]) -> String {
        let line = |(user, password): &(&str, &str)| format!("{user}:{}", bcrypt::hash(password, 4).unwrap());
        users.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn only_bcrypt_counts() {
        let content = format!(
            "# people\n\n{}\nmd5:$apr1$x$y\nplain:secret\nnohash\n:x\nslow:$2y$31$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuuabcdefghijklmno\n",
            file(&[("ann", "a")])
        );
        assert_eq!(parse(content.as_bytes()).into_keys().collect::<Vec<_>>(), ["ann"]);
    }

    #[tokio::test]
    async fn passwords_are_checked() {
        let users = Users::new(parse(file(&[("ann", "a"), ("bob", "b")]).as_bytes())).unwrap();
        let check = async |user: &str, password: &str| users.check(user, password.to_owned()).await;
        assert_eq!(check("ann", "a").await, Ok(()));
        assert_eq!(check("ann", "a").await, Ok(()), "remembered");
        assert_eq!(check("ann", "b").await, Err(AuthError::Refused));
        assert_eq!(check("bob", "a").await, Err(AuthError::Refused));
        assert_eq!(check("eve", "a").await, Err(AuthError::Refused), "the decoy's password opens nothing");
        assert_eq!(check("eve", "b").await, Err(AuthError::Refused));
        assert_eq!(check("", "").await, Err(AuthError::Refused));
    }

    #[tokio::test]
    async fn without_users_nobody_enters() {
        let users = Users::new(HashMap::new()).unwrap();
        assert_eq!(users.check("ann", "a".to_owned()).await, Err(AuthError::Refused));
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_counts_at_once_and_a_missing_one_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        std::fs::write(&path, file(&[("ann", "a")])).unwrap();
        let users = Users::open(path.clone()).await.unwrap();
        assert_eq!(users.check("ann", "a".to_owned()).await, Ok(()));
        std::fs::remove_file(&path).unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(users.check("ann", "a".to_owned()).await, Ok(()));
        std::fs::write(&path, file(&[("bob", "b")])).unwrap();
        let changed = async {
            while users.check("ann", "a".to_owned()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), changed).await.unwrap();
        assert_eq!(users.check("bob", "b".to_owned()).await, Ok(()));
    }
}

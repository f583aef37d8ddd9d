//! Who may ask: whoever shows a key, or where none is asked for whoever is no stranger to the
//! machine.

use super::http::{Request, Response, Stranger, check_origin};
use crate::keys::{KeyHash, Keys};

/// Who may ask a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Hashes of the keys; none opens it to everybody who can reach it.
    pub keys: Keys,
    /// Names, besides addresses and `localhost`, that clients without a key may know the machine
    /// by.
    pub hosts: Vec<String>,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barred {
    /// No key, or a wrong one.
    Key,
    /// It is not meant for this server.
    Stranger(Stranger),
}

impl Barred {
    /// The status of the answer.
    pub const fn status(self) -> u16 {
        match self {
            Self::Key => 401,
            Self::Stranger(Stranger::Host) => 421,
            Self::Stranger(Stranger::CrossSite) => 403,
        }
    }

    /// What to do about it.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Key => {
                "no key, or a wrong one; send it as Prediction-Key, Ocp-Apim-Subscription-Key or Authorization: Bearer"
            }
            Self::Stranger(stranger) => stranger.why(),
        }
    }

    /// The same as an answer of text.
    pub fn response(self) -> Response {
        Response::text(self.status(), self.why())
    }
}

impl Access {
    /// Whether the request may change something: it comes from this server's own pages or from no
    /// page at all, and shows a key.
    pub fn admit_change(&self, request: &Request) -> Result<String, Barred> {
        check_origin(request, &self.hosts).map_err(Barred::Stranger)?;
        let key = self.shown(request).ok_or(Barred::Key)?;
        // As much of the hash as tells the keys of a site apart.
        Ok(KeyHash::of(key).to_string().chars().take(15).collect())
    }

    /// Whether the request may look, without a key.
    pub fn admit_look(&self, request: &Request) -> Result<(), Barred> {
        check_origin(request, &self.hosts).map_err(Barred::Stranger)
    }

    /// Whether the request may be answered.
    pub fn admit(&self, request: &Request) -> Result<(), Barred> {
        // A page that a visitor's browser shows has no key.
        if self.keys.is_open() {
            return check_origin(request, &self.hosts).map_err(Barred::Stranger);
        }
        self.shown(request).map(drop).ok_or(Barred::Key)
    }

    /// The key of the request that opens, wherever [`Barred::why`] says that it may stand.
    fn shown<'r>(&self, request: &'r Request) -> Option<&'r str> {
        let bearer = request.header("authorization").and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key)
        });
        let shown = [request.header("prediction-key"), request.header("ocp-apim-subscription-key"), bearer];
        shown.into_iter().flatten().map(str::trim).find(|key| self.keys.opens(key))
    }
}

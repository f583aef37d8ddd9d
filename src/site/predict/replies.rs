//! Answers in each dialect's words.

use super::dialect::{Dialect, Features};
use super::{Refusal, Served};
use crate::bundle::sha256;
use crate::calendar::iso8601;
use crate::classify::{Classified, ClassifyError};
use crate::head::{Score, TagId};
use crate::pictures::PictureError;
use crate::regular::Unread;
use crate::site::access::Barred;
use crate::site::http::{BodyError, Response};
use serde::Serialize;
use serde_json::json;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// What Computer Vision calls an image of no category.
const NO_CATEGORY: &str = "others_";

/// A UUID that `parts` determine (RFC 9562, version 8).
pub(super) fn uuid(parts: &[&[u8]]) -> String {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    let mut id = sha256(&bytes);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    let hex: String = id[..16].iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A UUID for an answer.
fn next_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static PROCESS: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    // The standard library seeds this hasher from the system's random numbers.
    let process = PROCESS.get_or_init(|| RandomState::new().build_hasher().finish());
    uuid(&[&process.to_le_bytes(), &NEXT.fetch_add(1, Relaxed).to_le_bytes()])
}

// Scores are written from these, not from a `json!` value, which would give them the digits of a
// wider type.

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Prediction<'a> {
    probability: f32,
    tag_id: &'a str,
    tag_name: &'a str,
    tag_type: &'static str,
}

#[derive(Serialize)]
struct CustomVision<'a> {
    id: String,
    project: &'a str,
    iteration: &'a str,
    created: String,
    predictions: Vec<Prediction<'a>>,
}

#[derive(Serialize)]
struct Category<'a> {
    name: &'a str,
    score: f32,
}

#[derive(Serialize)]
struct Tag<'a> {
    name: &'a str,
    confidence: f32,
}

#[derive(Serialize)]
struct Metadata {
    width: u32,
    height: u32,
    format: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ComputerVision<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<Vec<Category<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<Tag<'a>>>,
    request_id: String,
    metadata: Metadata,
    model_version: &'a str,
}

/// Every tag, best first: filtering by a threshold is the client's.
pub(super) fn custom_vision(model: &Served, found: &Classified<'_>) -> Response {
    let prediction = |(id, score): (TagId, Score)| Prediction {
        probability: score.probability(),
        tag_id: &model.tag_ids[id.0 as usize],
        tag_name: found.name(id),
        tag_type: "Regular",
    };
    let reply = CustomVision {
        id: next_id(),
        project: &model.id,
        iteration: &model.id,
        created: iso8601(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
        predictions: found.best(usize::MAX).into_iter().map(prediction).collect(),
    };
    Response::json(200, &reply)
}

/// The kind of an image that was decoded, as Computer Vision names it.
pub(super) fn format(image: &[u8]) -> &'static str {
    match image {
        [0xff, 0xd8, ..] => "Jpeg",
        [0x89, b'P', ..] => "Png",
        [b'B', b'M', ..] => "Bmp",
        _ => "Webp",
    }
}

/// Categories: the tag that names the decision. Tags: all, best first.
/// `size`: columns and rows. `format`: as [`format`] names it.
pub(super) fn computer_vision(
    model: &Served,
    found: &Classified<'_>,
    [width, height]: [u32; 2],
    format: &'static str,
    features: Features,
) -> Response {
    let best = found.best(usize::MAX);
    let category = || {
        let named = found.decision.tag.map(|id| (found.name(id), found.score(id).probability()));
        let (name, score) = named.unwrap_or((NO_CATEGORY, 0.0));
        vec![Category { name, score }]
    };
    let tag = |(id, score): &(TagId, Score)| Tag { name: found.name(*id), confidence: score.probability() };
    let reply = ComputerVision {
        categories: features.categories.then(category),
        tags: features.tags.then(|| best.iter().map(tag).collect()),
        request_id: next_id(),
        metadata: Metadata { width, height, format },
        model_version: &model.version,
    };
    Response::json(200, &reply)
}

/// The models by name, with their tags in the bundle's order.
pub(super) fn models(models: &[Served]) -> Response {
    let model = |m: &Served| json!({ "name": m.name, "id": m.id, "bundle_sha256": m.version, "tags": m.tags });
    Response::json(200, &json!({ "models": models.iter().map(model).collect::<Vec<_>>() }))
}

/// A refusal as each dialect names it.
struct Words {
    status: u16,
    /// Custom Vision's code, and ours.
    custom: &'static str,
    /// Computer Vision's code and inner code.
    vision: (&'static str, &'static str),
    message: String,
}

fn words(refusal: &Refusal, limit: usize) -> Words {
    let invalid = |inner| ("InvalidRequest", inner);
    let (status, custom, vision, message) = match refusal {
        Refusal::Barred(barred) => {
            let (custom, vision) = match barred {
                Barred::Key => ("Unauthorized", "Unauthorized"),
                Barred::Stranger(_) => ("ForbiddenInvalid", "Forbidden"),
            };
            (barred.status(), custom, (vision, "Unspecified"), barred.why().into())
        }
        Refusal::Path => {
            let why = "no such path; POST an image to /classify, or use a Custom Vision or Computer Vision client";
            (404, "NotFound", invalid("BadArgument"), why.into())
        }
        Refusal::Method(allowed) => {
            (405, "BadRequestNotSupported", invalid("BadArgument"), format!("expected the method {allowed}"))
        }
        Refusal::Unsupported(why) => (400, "BadRequestNotSupported", invalid("NotSupportedFeature"), why.to_string()),
        Refusal::Model(name, names) => {
            let why = format!("no model \"{name}\"; there is {names}. A bundle is given another name as NAME=FILE");
            (404, "NotFoundIteration", invalid("InvalidModel"), why)
        }
        Refusal::Body(BodyError::TooLarge) => {
            let why = format!("the image is larger than {limit} bytes");
            (413, "BadRequestImageSizeBytes", invalid("InvalidImageSize"), why)
        }
        Refusal::Body(BodyError::Slow) => {
            (408, "BadRequestImageStream", invalid("Timeout"), "the image did not come in time".into())
        }
        Refusal::Body(BodyError::Malformed) => {
            (400, "BadRequestImageStream", invalid("BadArgument"), "the body's chunks are wrong".into())
        }
        Refusal::Body(BodyError::Gone) => {
            (400, "BadRequestImageStream", invalid("BadArgument"), "the body ends too early".into())
        }
        Refusal::Upload(why) => (400, "BadRequestImageStream", invalid("UnsupportedMediaType"), why.to_string()),
        Refusal::Image(e @ (PictureError::TooLarge { .. } | PictureError::Read(Unread::TooLarge { .. }))) => {
            (400, "BadRequestImageDimensions", invalid("InvalidImageSize"), format!("the image {e}"))
        }
        Refusal::Image(e) => (400, "BadRequestImageFormat", invalid("InvalidImageFormat"), e.to_string()),
        Refusal::Classify(e @ ClassifyError::Engine(_)) => {
            (500, "ErrorPrediction", ("InternalServerError", "FailedToProcess"), e.to_string())
        }
        Refusal::Rules(e) => (500, "ErrorPrediction", ("InternalServerError", "FailedToProcess"), e.to_string()),
        Refusal::Classify(e) => (400, "BadRequestImageDimensions", invalid("InvalidImageSize"), e.to_string()),
        Refusal::Full => {
            let why = "everything is busy; try again in a second";
            (503, "ErrorPredictionServiceUnavailable", ("ServiceUnavailable", "Unspecified"), why.into())
        }
    };
    Words { status, custom, vision, message }
}

/// A refusal in the dialect's words. `limit`: most bytes of an image.
pub(super) fn refusal(dialect: Dialect, refusal: &Refusal, limit: usize) -> Response {
    let Words { mut status, custom, vision, message } = words(refusal, limit);
    // The services say so; their clients know 413 from proxies only.
    if status == 413 && dialect != Dialect::Plain {
        status = 400;
    }
    let value = match dialect {
        Dialect::CustomVision | Dialect::Plain => json!({ "code": custom, "message": message }),
        Dialect::ComputerVision(_) => {
            let inner = json!({ "code": vision.1, "message": message });
            json!({ "error": { "code": vision.0, "message": message, "innererror": inner } })
        }
    };
    let response = Response::json(status, &value);
    match refusal {
        Refusal::Full => response.with("Retry-After", "1"),
        Refusal::Method(allowed) => response.with("Allow", *allowed),
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_that_their_parts_determine() {
        let id = uuid(&[b"ab", b"c"]);
        assert_eq!((id.len(), &id[14..15], id.matches('-').count()), (36, "8", 4));
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
        assert_eq!(id, uuid(&[b"ab", b"c"]));
        assert_ne!(id, uuid(&[b"a", b"bc"]));
        assert_ne!(next_id(), next_id());
    }
}

//! What a path asks for, and in whose words the answer is expected.
//!
//! Fixed words of a path match in any case: services and their clients disagree on it. Paths come
//! from Custom Vision's prediction API v3, its exported container, Computer Vision's Analyze Image,
//! and Open Inference's health.

use crate::site::http::Request;

/// Whose words an answer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Custom Vision, hosted or its exported container.
    CustomVision,
    /// Computer Vision.
    ComputerVision(Features),
    /// Our own: what `classify --json` prints.
    Plain,
}

/// Which parts a Computer Vision client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    pub(super) categories: bool,
    pub(super) tags: bool,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask<'r> {
    /// Classify an image, by the model of that name or the first.
    Image { dialect: Dialect, model: Option<&'r str> },
    /// The same by the model that belongs to a project.
    Project { dialect: Dialect, project: &'r str },
    /// The models that there are.
    Models,
    /// Whether the server lives.
    Live,
    /// Something that is not offered.
    Unsupported(Dialect, &'static str),
    /// Nothing that is known.
    Unknown,
}

const NO_ADDRESSES: &str = "images are not fetched from addresses; send the image itself";
const NO_REGIONS: &str = "these models name whole images; ask for classify/iterations, not detect/iterations";
const NO_FEATURE: &str = "only analyze (visualFeatures Categories, Tags, without details) and tag are offered";
const TWO_MODELS: &str = "more than one model is named, by the path or ?model=; name one";

impl Ask<'_> {
    /// In whose words a refusal is told.
    pub(super) fn dialect(&self) -> Dialect {
        match *self {
            Self::Image { dialect, .. } | Self::Project { dialect, .. } | Self::Unsupported(dialect, _) => dialect,
            Self::Models | Self::Live | Self::Unknown => Dialect::Plain,
        }
    }
}

/// What the request asks for. `segments`: its path's. The query names a model where the path names
/// none.
pub(super) fn of<'r>(request: &'r Request, segments: &[&'r str]) -> Ask<'r> {
    let ask = by_path(request, segments);
    let mut models = request.queries("model");
    let model = models.next();
    if models.any(|other| Some(other) != model) {
        return Ask::Unsupported(ask.dialect(), TWO_MODELS);
    }
    match (ask, model) {
        (Ask::Image { dialect, model: None }, model) => Ask::Image { dialect, model },
        (Ask::Image { dialect, model: Some(other) }, Some(model)) if model != other => Ask::Unsupported(dialect, TWO_MODELS),
        (Ask::Project { dialect, .. }, Some(_)) => Ask::Unsupported(dialect, TWO_MODELS),
        (ask, _) => ask,
    }
}

fn by_path<'r>(request: &'r Request, segments: &[&'r str]) -> Ask<'r> {
    let small: Vec<String> = segments.iter().map(|s| s.to_ascii_lowercase()).collect();
    let small: Vec<&str> = small.iter().map(String::as_str).collect();
    let custom = Dialect::CustomVision;
    // A hosted service's prefix stands before what its container has for a path.
    let (hosted, at) = match small.as_slice() {
        ["customvision", version, "prediction", ..] if is_version(version, "v3.", '0'..='4') => (true, 3),
        _ => (false, 0),
    };
    match (&small[at..], &segments[at..]) {
        ([_, "classify", "iterations", _, rest @ ..], [_, _, _, name, ..]) => {
            return uploaded(rest, custom, Ask::Image { dialect: custom, model: Some(name) });
        }
        ([_, "detect", "iterations", ..], _) => return Ask::Unsupported(custom, NO_REGIONS),
        _ if hosted => return Ask::Unknown,
        (["image" | "url", ..], _) => return uploaded(&small, custom, Ask::Image { dialect: custom, model: None }),
        ([_, "image" | "url", ..], [project, ..]) => {
            return uploaded(&small[1..], custom, Ask::Project { dialect: custom, project });
        }
        _ => {}
    }
    match (small.as_slice(), segments) {
        (["classify"], _) => Ask::Image { dialect: Dialect::Plain, model: None },
        (["classify", _], [_, name]) => Ask::Image { dialect: Dialect::Plain, model: Some(name) },
        (["models"], _) => Ask::Models,
        (["v2", "health", "live" | "ready"], _) => Ask::Live,
        (["vision", version, operation], _) if is_vision(version) => vision(request, operation, None),
        ([_, "vision", version, operation], [name, ..]) if is_vision(version) => vision(request, operation, Some(name)),
        _ => Ask::Unknown,
    }
}

fn is_version(text: &str, major: &str, minors: std::ops::RangeInclusive<char>) -> bool {
    let minor = text.strip_prefix(major).and_then(|minor| minor.parse::<char>().ok());
    minor.is_some_and(|m| minors.contains(&m))
}

fn is_vision(version: &str) -> bool {
    is_version(version, "v3.", '0'..='2') || is_version(version, "v2.", '0'..='1')
}

/// `image` or `url`, with `nostore` behind it or not: nothing is stored in any case.
fn uploaded<'r>(rest: &[&str], dialect: Dialect, image: Ask<'r>) -> Ask<'r> {
    match rest {
        ["image"] | ["image", "nostore"] => image,
        ["url"] | ["url", "nostore"] => Ask::Unsupported(dialect, NO_ADDRESSES),
        _ => Ask::Unknown,
    }
}

fn vision<'r>(request: &'r Request, operation: &str, model: Option<&'r str>) -> Ask<'r> {
    // Some clients repeat a parameter instead of writing a list.
    let all = |name| request.queries(name).collect::<Vec<_>>().join(",").to_ascii_lowercase();
    let (asked, details) = (all("visualFeatures"), all("details"));
    let asked = if request.query("visualFeatures").is_none() { "categories" } else { &asked };
    let asks = |feature: &str| asked.split(',').any(|f| f.trim() == feature);
    let is_offered = details.is_empty() && asked.split(',').all(|f| matches!(f.trim(), "categories" | "tags"));
    let features = match operation {
        "tag" => Features { categories: false, tags: true },
        _ => Features { categories: asks("categories"), tags: asks("tags") },
    };
    let dialect = Dialect::ComputerVision(features);
    match operation {
        "analyze" | "tag" if request.is_json() => Ask::Unsupported(dialect, NO_ADDRESSES),
        "tag" => Ask::Image { dialect, model },
        "analyze" if is_offered => Ask::Image { dialect, model },
        _ => Ask::Unsupported(dialect, NO_FEATURE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(target: &str) -> String {
        let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (request, _) = Request::parse(head.as_bytes()).unwrap().unwrap();
        let segments = request.segments();
        match of(&request, &segments) {
            Ask::Image { dialect: Dialect::CustomVision, model } => format!("custom {}", model.unwrap_or("-")),
            Ask::Image { dialect: Dialect::ComputerVision(f), model } => {
                format!("vision {} {} {}", f.categories as u8, f.tags as u8, model.unwrap_or("-"))
            }
            Ask::Image { dialect: Dialect::Plain, model } => format!("plain {}", model.unwrap_or("-")),
            Ask::Project { project, .. } => format!("project {project}"),
            Ask::Unsupported(_, why) => why.into(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_path_of_the_services_is_known_in_any_case_and_its_neighbours_are_not() {
        let project = "0f3b2a5e-0000-4000-8000-000000000000";
        let iterations = format!("/{project}/classify/iterations/Parts");
        for prefix in ["", "/customvision/v3.1/prediction", "/customvision/v3.0/Prediction", "/CustomVision/v3.4/PREDICTION"]
        {
            for end in ["image", "image/nostore", "Image/NoStore?application=line"] {
                assert_eq!(ask(&format!("{prefix}{iterations}/{end}")), "custom Parts", "{prefix} {end}");
            }
            assert_eq!(ask(&format!("{prefix}{iterations}/url/nostore")), NO_ADDRESSES);
            assert_eq!(ask(&format!("{prefix}/{project}/detect/iterations/Parts/image")), NO_REGIONS);
            assert_eq!(ask(&format!("{prefix}{iterations}/images")), "Unknown");
            assert_eq!(ask(&format!("{prefix}{iterations}/image/nostore/more")), "Unknown");
        }
        assert_eq!(ask(&format!("/customvision/v3.5/prediction{iterations}/image")), "Unknown");
        assert_eq!(ask(&format!("/customvision/v3.1/prediction/{project}/image")), "Unknown");
        assert_eq!(ask("/image"), "custom -");
        assert_eq!(ask("/image/nostore"), "custom -");
        assert_eq!(ask("/url"), NO_ADDRESSES);
        assert_eq!(ask(&format!("/{project}/image")), format!("project {project}"));
        assert_eq!(ask("/parts/image/nostore"), "project parts");

        assert_eq!(ask("/vision/v3.2/analyze"), "vision 1 0 -");
        assert_eq!(ask("/vision/v3.2/analyze?visualFeatures=Categories%2CTags&language=en"), "vision 1 1 -");
        assert_eq!(ask("/Vision/v2.0/Analyze?visualfeatures=tags"), "vision 0 1 -");
        assert_eq!(ask("/parts/vision/v3.1/tag"), "vision 0 1 parts");
        assert_eq!(ask("/vision/v3.2/analyze?visualFeatures=Faces"), NO_FEATURE);
        for half in [
            "visualFeatures=Tags,Faces",
            "visualFeatures=Tags&visualFeatures=Faces",
            "visualFeatures=Tags&details=Celebrities",
        ] {
            assert_eq!(ask(&format!("/vision/v3.2/analyze?{half}")), NO_FEATURE, "half an answer");
        }
        assert_eq!(ask("/vision/v3.2/analyze?visualFeatures=Tags&visualFeatures=Categories"), "vision 1 1 -");
        assert_eq!(ask("/vision/v3.2/analyze?visualFeatures=Tags&details="), "vision 0 1 -");
        // Another model than the one that was named answered.
        for path in ["/classify", "/vision/v3.2/tag", "/image"] {
            assert!(ask(&format!("{path}?model=b")).ends_with(" b"), "{path}");
        }
        for path in ["/classify/a", "/a/vision/v3.2/tag", &format!("/{project}/classify/iterations/a/image"), "/a/image"] {
            assert_eq!(ask(&format!("{path}?model=b")), TWO_MODELS, "{path}");
        }
        assert_eq!(ask("/classify/b?model=b"), "plain b");
        // The first of two answered.
        for path in ["/classify", "/image", "/vision/v3.2/tag", "/models", "/a/classify/iterations/b/image"] {
            assert_eq!(ask(&format!("{path}?model=b&MODEL=c")), TWO_MODELS, "{path}");
        }
        assert_eq!(ask("/classify?model=b&model=b"), "plain b");
        assert_eq!(ask("/vision/v3.2/analyze?visualFeatures="), NO_FEATURE);
        assert_eq!(ask("/vision/v3.2/describe"), NO_FEATURE);
        assert_eq!(ask("/vision/v4.0/analyze"), "Unknown");

        assert_eq!(ask("/classify"), "plain -");
        assert_eq!(ask("/classify?model=Parts"), "plain Parts");
        assert_eq!(ask("/classify/Parts"), "plain Parts");
        assert_eq!(ask("/"), "Unknown");
        assert_eq!((ask("/models"), ask("/v2/health/ready")), ("Models".into(), "Live".into()));
    }
}

//! How the place of a set is made callable.

use std::sync::Arc;

use super::spec::SetPlace;
use crate::kind::file::FileDocument;
use crate::kind::real::RealProvider;
use crate::kind::vault::kv2::{Kv2Document, Kv2Place};
use crate::provider::CallError;
use crate::provider::document::Document;

impl SetPlace {
    /// The document that holds the set.
    ///
    /// # Errors
    /// When the place cannot be set up.
    pub(in crate::kind) async fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Document>, CallError> {
        Ok(match self {
            Self::File(path) => Arc::new(FileDocument::new(path)),
            Self::Kv2(spec) => {
                let place = Kv2Place::new(&spec.mount, &spec.path)?;
                Arc::new(Kv2Document::new(at.client(&spec.connection).await?, place, &spec.field)?)
            }
        })
    }
}

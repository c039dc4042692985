//! A field of a KV v2 secret that holds a set.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::server::{Kv2Place, Kv2Store};
use crate::domain::{Check, ErrorKind};
use crate::kind::vault::client::VaultClient;
use crate::kind::vault::kv2_secret::Fields;
use crate::provider::CallError;
use crate::provider::document::{Document, Edit, overtaken};
use crate::provider::layout::Layout;
use crate::secret::{Material, Secret};

const PART: &str = "document";

/// A document in one field. A version is written only on the version that was read.
#[derive(Debug)]
pub struct Kv2Document {
    store: Kv2Store,
    layout: Layout,
    field: String,
}

impl Kv2Document {
    /// The document in this field.
    ///
    /// # Errors
    /// When there cannot be such a field.
    pub fn new(client: Arc<VaultClient>, place: Kv2Place, field: &str) -> Result<Self, CallError> {
        let layout = Layout::new(&[PART], Some(field), &BTreeMap::new())?;
        let store = Kv2Store::new(client, place, layout.clone(), false);
        Ok(Self { store, layout, field: field.to_owned() })
    }

    async fn load(&self) -> Result<(Fields, u64, String), CallError> {
        let (fields, version) = self.store.current_fields().await?;
        let material = fields.material(&self.layout).map_err(|error| self.about(error))?;
        let text = material.main().map(|text| text.expose().to_owned()).unwrap_or_default();
        Ok((fields, version, text))
    }

    fn about(&self, error: CallError) -> CallError {
        CallError { message: format!("{}: {}", self.store.place.shown(), error.message), ..error }
    }
}

#[async_trait]
impl Document for Kv2Document {
    fn shown(&self) -> String {
        format!("{}#{}", self.store.place.shown(), self.field)
    }

    async fn preflight(&self) -> Vec<Check> {
        self.store.checks().await
    }

    async fn read(&self) -> Result<String, CallError> {
        Ok(self.load().await?.2)
    }

    async fn change(&self, edit: Edit) -> Result<(), CallError> {
        let (mut fields, version, text) = self.load().await?;
        let Some(changed) = edit(&text)? else { return Ok(()) };
        let changed = Material::single(PART, Secret::new(changed));
        fields.patch(&self.layout, &changed).map_err(|error| self.about(error))?;
        match self.store.write(&fields, version).await {
            Err(error) if error.kind == ErrorKind::Conflict && !error.in_doubt => {
                Err(overtaken(&self.shown()))
            }
            written => written.map(drop),
        }
    }

    async fn shares(&self) -> Result<Option<String>, CallError> {
        // The condition is kept by the server.
        Ok(None)
    }
}

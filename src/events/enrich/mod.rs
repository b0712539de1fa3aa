//! What the server finds out by itself: the program, the country, the page's parts, who sent the visitor.

mod agent;
mod geo;
mod source;
mod web;

pub(super) use agent::{Agent, Agents, reduced};
pub(super) use geo::Countries;

use super::draft::Draft;
use super::{EventsConfig, Field};

/// Fills in what a draft does not say. `agent` is what its user agent told, `country` what its address did.
pub(super) fn enrich(draft: &mut Draft<'_>, config: &EventsConfig, agent: &Agent, country: Option<&str>) {
    draft.fill(Field::Browser, agent.browser);
    draft.fill(Field::Os, agent.os);
    draft.fill(Field::Device, agent.device);
    if let Some(country) = country {
        draft.fill(Field::Country, country);
    }
    if let Some(ad) = config.ads.get(draft.text(Field::AdId)) {
        draft.fill(Field::CampaignId, &ad.campaign_id);
        draft.fill(Field::AdvertiserId, &ad.advertiser_id);
        if draft.kind == super::Kind::Click {
            draft.price = draft.price.or(ad.price);
        }
    }
    web::split_page(draft, &config.privacy.query_parameters);
    source::name_source(draft);
}

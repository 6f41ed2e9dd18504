//! The files in `envoy/` are what they claim to be: configurations that work.

use harness::client::get;
use harness::envoy::{Policy, envoy};
use harness::origin::Origin;
use harness::{Result, stage, stage_for_workers};

#[test]
fn envoy_finds_nothing_wrong_with_envoy_yaml() -> Result<()> {
    stage(async { envoy(Policy::shipped()?).validate() })
}

#[test]
fn envoy_yaml_lets_a_request_through() -> Result<()> {
    stage_for_workers(|workers| async move {
        let origin = Origin::start().await?;
        let plan = envoy(Policy::shipped()?).workers(workers).origin(origin.address());
        let envoy = plan.start().await?;
        let answer = envoy.send(get("/api/cart")).await?;
        assert_eq!((answer.status.as_u16(), origin.seen().len()), (200, 1), "{answer:?}");
        let access = envoy.access("/api/cart").await?;
        assert_eq!((&access["status"], &access["client"]), (&200.into(), &"127.0.0.1".into()));
        Ok(())
    })
}

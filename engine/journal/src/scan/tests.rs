//! Rot, imitations, old laps and old lives, each planted by hand.

package models

// What tests of this package call from outside of it.
var ApplyTargets = applyTargets

package migrations

// UpFrom is Up with other files and another pause.
var UpFrom = up

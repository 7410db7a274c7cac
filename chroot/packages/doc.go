// Package packages reads the databases of installed packages in an image: of dpkg, rpm and apk.
//
// It reads nothing but these files, because the first read of each block of a new volume is slow, and it
// runs no program of the image. An image is not trusted: every length and offset is checked, and the
// memory that is used is limited. A database in a form that is not known is a problem, not an error.
package packages

package selinux

// Contexts holds the consequences of a build for the SELinux contexts of an image's files. A file's
// context is also called its label.
type Contexts struct {
	// Mode is that of the image, enforcing or permissive, if new files need labels and
	// this host gives them none. It is empty otherwise.
	Mode string
	// Policy is the name of the image's policy, such as targeted.
	Policy string
	// Unlabelled is a file that was created in the build and has no label. It is empty
	// if there is none, or if the image labels all its files when it boots next.
	Unlabelled string
	// Unsearched reports whether the time limit ended the search.
	Unsearched bool
}

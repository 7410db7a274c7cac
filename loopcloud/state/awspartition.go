package state

import "strings"

// partition is a part of AWS with its own accounts, ARNs and host names.
type partition struct {
	// prefix is the beginning of its region names; empty matches all others.
	prefix string
	// name is the second field of its ARNs.
	name string
	// domain is the domain of its hosts.
	domain string
}

// partitions are the partitions of AWS, the default one last.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
var partitions = []partition{
	{"cn-", "aws-cn", "amazonaws.com.cn"},
	{"us-gov-", "aws-us-gov", "amazonaws.com"},
	{"us-iso-", "aws-iso", "c2s.ic.gov"},
	{"us-isob-", "aws-iso-b", "sc2s.sgov.gov"},
	{"us-isof-", "aws-iso-f", "csp.hci.ic.gov"},
	{"eu-isoe-", "aws-iso-e", "cloud.adc-e.uk"},
	{"eusc-", "aws-eusc", "amazonaws.eu"},
	{"", "aws", "amazonaws.com"},
}

func partitionOf(region string) partition {
	for _, p := range partitions {
		if strings.HasPrefix(region, p.prefix) {
			return p
		}
	}
	return partition{}
}

// Partition returns the partition of a region, as in ARNs, such as aws-cn.
func Partition(region string) string { return partitionOf(region).name }

// Domain returns the domain of AWS's hosts in a region, such as amazonaws.com.cn.
func Domain(region string) string { return partitionOf(region).domain }
